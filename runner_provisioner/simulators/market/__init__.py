"""What every simulated market has, whoever sells: pods over time, their processes, hosts, a bill, a way to order."""
