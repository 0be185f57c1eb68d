"""The load test: plan, generators, windows, results, reports."""
