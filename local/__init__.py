"""Everything that runs the project on this machine: a state folder, its processes, `make up` and `make demo`."""
