"""Element by element: sums, products, tables, quantization."""
