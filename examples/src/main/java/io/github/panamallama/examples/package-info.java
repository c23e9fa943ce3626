/** Small programs that show one thing each. */
package io.github.panamallama.examples;
