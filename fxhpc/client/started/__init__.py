"""What clients start themselves: `local`, and private endpoints here or on a job's nodes."""
