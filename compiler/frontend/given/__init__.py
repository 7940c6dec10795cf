"""The file as it was given: read and checked before anything is made of it."""
