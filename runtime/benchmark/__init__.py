"""How long an inspection takes on this machine, stage by stage, and how sure that is."""
