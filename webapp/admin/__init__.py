"""The admin panel: all of the record can be read, little can be changed.

Rows are written by the verbs in ``research``; an edit here would be one that no Event tells of. So the
record is read-only, audit rows may not even be deleted, and what an administrator may set (a campaign's
policy and budget, whether a worker is trusted) is listed field by field.
"""

from django.contrib import admin

from webapp.admin import campaigns, record, tokens

admin.site.site_header = admin.site.site_title = "Countersign"
admin.site.index_title = "Administration"
admin.site.empty_value_display = "–"
