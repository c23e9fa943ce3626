/**
 * Side-by-side comparisons with upstream's own programs, JMH benchmarks, and the random models that both run on. Every figure
 * is a ratio measured in one run. Timed tests don't belong here or anywhere else.
 */
package io.github.panamallama.bench;
