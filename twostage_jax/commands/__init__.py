"""What commands share: devices, progress, a report that grows, and how they end."""
