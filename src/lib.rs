//! Kubernetes operator that rotates app codes.
