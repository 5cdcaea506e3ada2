"""The engines that hold searchable documents and rank them. Never any messaging or HTTP."""
