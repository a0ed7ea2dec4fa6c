"""How raw shards come to be. One file per origin."""
