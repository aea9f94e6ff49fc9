"""Plans, the samplers that decide on them, and the exact neighbor searches behind those."""
