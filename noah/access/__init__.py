"""Who may come in, and what they may do: providers of identities, reviews by the clusters, grants."""
