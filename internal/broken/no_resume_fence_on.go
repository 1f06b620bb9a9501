//go:build broken_no_resume_fence

package broken

// NoResumeFence: the sessions of a dead incarnation are left alone when it is resumed (DESIGN 3, resume, 3).
const NoResumeFence = true
