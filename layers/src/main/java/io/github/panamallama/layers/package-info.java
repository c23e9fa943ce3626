/** Choosers of layer plans, static and by prompt, and the files that keep what they found. */
package io.github.panamallama.layers;
