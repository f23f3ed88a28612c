"""What is known of each output symbol of recognisers, and what explains its recall."""
