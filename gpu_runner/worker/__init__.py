"""The worker: claims approved runs over HTTP, trains them in a sandbox, has them scored, reports. It trusts no run."""
