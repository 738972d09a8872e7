"""What can be done to a stack, one kind of fault a file. Only to what the suite made itself."""
