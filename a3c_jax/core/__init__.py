"""What every other package may use: records, clocks and small conversions."""
