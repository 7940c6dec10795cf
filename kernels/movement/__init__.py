"""Moving data: strided copies, concatenation, padding."""
