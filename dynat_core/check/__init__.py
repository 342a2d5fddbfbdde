"""May a robust accuracy be believed? Pre-flight, verdict, ladder of attacks, curves, transfer."""
