//! A private server, started from the installed binaries.
