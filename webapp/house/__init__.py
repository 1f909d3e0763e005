"""Starting and keeping the processes of one machine: supervisor, doctor, install, Redis, and the outermost doors."""
