"""The report: tables, figures and the page that shows them."""
