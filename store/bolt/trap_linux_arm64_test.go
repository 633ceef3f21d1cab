package bolt

const amd64 = 0
