"""End-to-end tests: the real programs as processes, seen only from outside, as a user at two terminals sees them."""
