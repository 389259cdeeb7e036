//! Two hosts: the collector and the reporting service on the near one, the relay on the far one.
