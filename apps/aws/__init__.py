"""AWS, one module per service: plain values in and out, one error type."""
