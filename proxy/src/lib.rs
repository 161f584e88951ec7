//! The HTTP(S) proxy that container engines pull through.
