"""What every room of Quarterdeck stands on."""
