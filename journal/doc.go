// Package journal keeps, on stable storage, which clients hold which opens and locks.
package journal
