"""Training: the model, one call of ``fit``, its callbacks and its checkpoints.

The modules, roughly in the order in which a call of ``Network.fit`` uses them:

=================  =============================================================================
module             subject
=================  =============================================================================
``model``          everything that training changes and a file stores
``fit``            checking the arguments
``split``          the rows that ``validation=share`` holds out
``job``            the checked arguments of one call
``loop``           epochs, callbacks, validation, progress; what happens after Ctrl-C
``stepper``        training steps, the counters and the position in the epoch
``lbfgs``          full-batch training by SciPy, instead of ``loop``'s steps
``slices``         parts of an epoch, shared with ``pynn.sklearn``
``evaluation``     loss, accuracy and metrics of ``Network.evaluate``
``divergence``     checks that parameters are finite, snapshots, and finding the faulty step
``range_test``     the learning-rate range test
``rates``          the learning rate of every step
``blocks``         the order of rows for files larger than memory
``stream``         rows larger than memory: windows, the thread that reads, trainers per window
``stream_rows``    the first pass over such rows, and their checks
``callbacks``      the base class, EarlyStopping, SaveBest, Every, Norms
``tracking``       callbacks that write files or report to other programs: CSVLogger, …
``measurement``    metrics after each epoch
``history``        the records of epochs
``progress``       progress bar and lines
``standardise``    means and scales of inputs and targets
``profile``        times of the phases of a step
``initialise``     initial weights
``properties``     the properties of ``Network`` that show its model
``access``         the methods of ``Network`` that look inside a model
``explained``      attributions of outputs to inputs
``model_file``     model files
``checkpoint``     the argument ``checkpoint``
``saver``          writing checkpoints
``resume``         reading them
``compare``        comparing a run with the call that resumes it
=================  =============================================================================
"""
