"""What exporters write out in small operators, as the operators that it is."""
