"""The downstream service, pure: tokens and entitlements, limits, histories, and what one client may do."""
