"""Child processes that are not trusted: started as a group, read line by line, ended as a whole."""
