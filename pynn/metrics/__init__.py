"""Metrics: measures of predictions by name or as functions, for ``fit`` and ``evaluate``.

=============  =====================================================================================
module         subject
=============  =====================================================================================
``metric``     :class:`pynn.Metric`
``rows``       targets and outputs of some rows, in the forms that metrics take
``classes``    formulas for classes
``values``     formulas for regression
``catalogue``  the metrics of pynn by name
``scikit``     metrics of scikit-learn by name
``measure``    the argument ``metrics``, and the values of all metrics on some rows
=============  =====================================================================================
"""
