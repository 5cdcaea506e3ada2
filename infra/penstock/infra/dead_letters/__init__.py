"""What could not be handled: kept, counted, shown, redriven and discarded."""
