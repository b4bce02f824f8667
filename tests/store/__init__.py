"""The store's contract, the same for every engine; what only one engine has is in the file that bears its name."""
