"""What a decision of the policy engine costs, over the number of policies."""
