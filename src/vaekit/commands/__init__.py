"""Commands, one a module: each is one call into the library, and what it prints."""
