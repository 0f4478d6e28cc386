"""The lab that never existed: physics, dialects, faults. Imports no driver."""
