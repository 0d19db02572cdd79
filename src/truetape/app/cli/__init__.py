"""The command line: data on stdout, progress and logs on stderr; exit 0 done, 1 failed, 2 wrong usage or config, 130 Ctrl-C."""
