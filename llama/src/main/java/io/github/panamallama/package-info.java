/**
 * The facade: load a model, here or in a process of its own, complete, fill in, chat. Everything in this process can be had from the
 * runtime and the sampling module with more lines and more control; what evaluates models or chooses tokens belongs there.
 */
package io.github.panamallama;
