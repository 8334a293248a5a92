"""GitHub: App and token authentication, runners, workflow runs."""
