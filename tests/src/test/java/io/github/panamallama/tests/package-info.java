/**
 * What crosses modules: differential tests against upstream's own programs, conformance suites, many threads, bad input in
 * child JVMs. What one module can show alone is tested in that module.
 */
package io.github.panamallama.tests;
