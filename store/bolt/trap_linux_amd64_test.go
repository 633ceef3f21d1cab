package bolt

const amd64 = 1
