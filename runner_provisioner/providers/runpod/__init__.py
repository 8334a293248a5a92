"""RunPod: the GraphQL API, and the one REST v2 call that ends a pod."""
