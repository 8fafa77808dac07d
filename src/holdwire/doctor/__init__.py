"""Looking for the cause from outside: the ladder of checks, the idle limit, captures, and words explained."""
