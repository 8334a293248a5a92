"""The script that turns a rented pod into one runner for one job."""
