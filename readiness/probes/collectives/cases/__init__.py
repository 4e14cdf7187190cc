"""Cases of collectives: operations with their inputs and known answers."""
