package seal

// Hide returns what the inner store knows a session and its key by.
func Hide(s *Store, session, key string) (string, string) {
	return s.names.hide(sessionName, "", session), s.names.hide(keyName, session, key)
}
