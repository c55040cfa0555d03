"""How what callers send is read: bodies, fields, and the shapes of events. For every door that takes events."""
