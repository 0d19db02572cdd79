"""The sender of pre-built frames: sender.c, and fallback.py where there is no C compiler."""
