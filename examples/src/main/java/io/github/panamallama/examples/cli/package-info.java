/**
 * The command line: one class per command, over the facade and the runtime. What a program could use as well belongs in those
 * modules and not here.
 */
package io.github.panamallama.examples.cli;
